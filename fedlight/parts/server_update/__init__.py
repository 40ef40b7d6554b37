"""What the server does with the new weights before they are sent out."""

from fedlight.parts.server_update.dynamic import DynamicServerUpdate

__all__ = ["DynamicServerUpdate"]
