"""How nodes talk: frames, mutual TLS, peers, the mesh."""
