"""What to do now, why, and when to look again. Pure: no kernel, clock, environment or disk may enter."""
