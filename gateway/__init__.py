"""A gateway in front of Flowise: it decides who may call and how much, and passes every byte on."""

__version__ = "0.1.0"
