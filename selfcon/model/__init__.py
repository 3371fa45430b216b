"""Multi-exit encoders."""

from selfcon.model.encoder import SelfConEncoder, build_encoder

__all__ = ["SelfConEncoder", "build_encoder"]
