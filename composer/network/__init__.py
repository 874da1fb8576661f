"""Bridges, addresses, names and published ports, all by netlink."""
