"""How much the suite notices: a catalogue of faults, tried on the cells that can see each."""
