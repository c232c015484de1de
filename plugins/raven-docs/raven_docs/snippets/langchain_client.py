# pip install langchain-openai
import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(base_url="http://127.0.0.1:4000/v1", api_key=os.environ["RAVEN_KEY"], model="demo/chat")
print(model.invoke("Hello!").text)
