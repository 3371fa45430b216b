"""Public path of the loss: `from selfcon.loss import selfcon_loss`."""

from selfcon.losses.contrastive import selfcon_loss

__all__ = ["selfcon_loss"]
