"use strict";
// The lines are written for a gateway on this machine; here they get the address that brought the reader.
const LOCAL = "http://127.0.0.1:4000";

for (const code of document.querySelectorAll("pre > code")) {
  code.textContent = code.textContent.replaceAll(LOCAL, location.origin);
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Without TLS browsers keep the clipboard closed: mark the lines instead.
      getSelection().selectAllChildren(code);
      button.textContent = "Marked: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  code.parentElement.append(button);
}
