"""Chat completions through the hub: OpenAI clients on one side, OpenAI-like vendors on the other.

Clients: `shapes`, `turns` and `requests` read what they send, `replies` and `writer` write what they get.
Vendors: `asking` and `speaking` write requests, `answers` and `reader` read replies.
"""
