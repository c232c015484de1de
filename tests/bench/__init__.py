"""What a request costs: the gateway, nginx and a bare aiohttp proxy in one run (`python -m tests.bench`).

Load and upstream share one core, the proxy under test has the other for itself. The proxies take turns,
round by round; the table shows medians. How to read it:

- CPU is what the kernel charged to the proxy's threads from the first request until a second after the
  last reply, so that batched writes are in it. It is the figure to compare: it hardly depends on the load.
- Requests per second end where one of the two cores is full. "core busy" below 95 % means that load and
  upstream were the limit, not the proxy.
- "50 chunks at once": 50 sends without a pause. A proxy that falls behind finds several chunks in one
  read and gets cheaper, so here slow proxies look better than they are, and rounds differ. "In a single
  send" is the same bytes in one piece: the price of a reply when reads are few.
- "First byte added" is taken with one request in flight, without queues. It includes waking the idle core,
  which every proxy pays and the direct column does not.
- A sample during which others held the proxy's core for over a tenth of the time is taken again, twice at
  most. If that does not help, the table says that the machine was not quiet.
- Memory is the process's own. Socket buffers belong to the kernel.

`cases.py` lists the loads, `contenders.py` the proxies, `measure.py` the order of things.
"""
