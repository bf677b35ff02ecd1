"""The command line: words to a config to a job. The only room that knows Hydra."""
