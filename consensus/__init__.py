"""How nodes agree: a PBFT machine, values in, values out. Pure."""
