"""The Fréchet distance's properties; its values are compared with closed forms in tests/parity."""
