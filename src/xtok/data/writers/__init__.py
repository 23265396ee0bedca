"""Episodes out as folders that others read."""
