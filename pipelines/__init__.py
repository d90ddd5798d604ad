"""The stages of `dvc.yaml`: thin; each reads the spec, calls release or trainer, writes its outputs."""
