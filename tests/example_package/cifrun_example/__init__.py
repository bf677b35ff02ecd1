"""One flow and one dataset for cifrun, from outside."""
