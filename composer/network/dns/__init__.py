"""Name resolution at 127.0.0.11 in every container."""
