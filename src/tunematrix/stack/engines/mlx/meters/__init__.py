"""Instruments: each reads one thing where it acts, writes events, and changes nothing."""
