# pip install openai
import os

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:4000/v1", api_key=os.environ["RAVEN_KEY"])
reply = client.chat.completions.create(
    model="demo/chat",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(reply.choices[0].message.content)
