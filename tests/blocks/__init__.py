"""The blocks of code in the documents: which there are, and that they run."""
