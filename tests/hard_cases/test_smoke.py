async def test_x(case):
    await case.start()
    r = await case.chat()
    assert r.status == 200, r.body
    r = await case.stream("any")
    print(r)
    assert r.body.endswith(b"data: [DONE]\n\n")
    print(case.log)
