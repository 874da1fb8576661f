"""nftables: rules as values, expressions as bytes, one transaction."""
