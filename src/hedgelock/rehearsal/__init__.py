"""Rehearsals: the whole of HedgeLock against the simulated exchange, in virtual time, from one seed."""
