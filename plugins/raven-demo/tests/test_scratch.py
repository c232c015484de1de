async def test_it(raven):
    gw = await raven(base=("demo",))
    async with gw.client.post("/v1/demo/chat/completions", json={"model": "demo/chat", "messages": [{"role": "user", "content": "Hi there"}]}) as r:
        print(r.status, r.headers, await r.text())
    async with gw.client.post("/v1/demo/chat/completions", json={"model": "demo/chat", "stream": True, "messages": [{"role": "user", "content": "Hi there"}]}) as r:
        print(r.status, r.headers, await r.text())
    async with gw.client.get("/v1/demo/models") as r:
        print(r.status, r.headers, await r.text())
    async with gw.client.get("/v1/models") as r:
        print(r.status, r.headers, await r.text())
