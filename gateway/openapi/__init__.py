"""The description of the public port in OpenAPI 3.1, made from the endpoint table and the shapes of bodies."""

from gateway.openapi.document import document, document_json

__all__ = ["document", "document_json"]
