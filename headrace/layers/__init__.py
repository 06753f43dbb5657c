"""One module a layer: what its run reads, stages and audits. Publication is the caller's."""
