"""The witness: everything that leaves a process under test passes through it."""
