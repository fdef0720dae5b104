"""The parts of bestiary, one room a folder; tests/test_architecture.py holds which may import which."""
