"""The way to Flowise: HTTP/1.1 connections, their pool, and the one call that a request makes."""
