"""One module a layer: what a run of it reads, stages and audits."""
