"""What is in a data set, and what goes wrong silently when it is trained on as it is."""
