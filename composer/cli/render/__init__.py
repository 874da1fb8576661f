"""What a person reads: tables, progress, complaints. Nothing here acts on a stack."""
