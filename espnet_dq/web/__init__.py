"""A page in which a browser transcribes with a model of ours, and nothing else is asked."""
