"""The way to Flowise: HTTP/1.1 connections, their pool, header rules, and the gateway's own requests."""
