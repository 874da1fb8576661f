"""What to do next: (desired, observed, now) to actions. Pure; nothing is done here."""
