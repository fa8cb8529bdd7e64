"""Knowledge distillation of transformer models, compared honestly and shipped through the MLflow Model Registry."""

__version__ = "0.1.0"
