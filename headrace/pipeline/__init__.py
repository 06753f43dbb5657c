"""The steps of a run, one module a layer: read, transform, stage, audit."""
