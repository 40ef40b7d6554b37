"""Plain LightningModules, shipped as fedlight.models; nothing here knows of federation."""
