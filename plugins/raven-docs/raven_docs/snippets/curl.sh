curl -N http://127.0.0.1:4000/v1/chat/completions \
  -H "Authorization: Bearer $RAVEN_KEY" \
  -H "Content-Type: application/json" \
  -d '{"model": "demo/chat", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'
