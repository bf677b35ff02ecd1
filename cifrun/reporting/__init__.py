"""Many run directories as one answer: tables as text, Markdown, CSV, LaTeX and one HTML page."""
