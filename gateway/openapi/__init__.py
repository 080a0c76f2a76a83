"""Both ports in OpenAPI 3.1; the public one is made from the endpoint table and the shapes of bodies."""

from gateway.openapi.admin import admin_document, admin_document_json
from gateway.openapi.document import document, document_json

__all__ = ["admin_document", "admin_document_json", "document", "document_json"]
