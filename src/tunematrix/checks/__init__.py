"""Was it right? One cell's evidence and a claim in, a verdict out; pure functions, no I/O."""
