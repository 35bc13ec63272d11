// The one time that an invitation is shown.
const place = document.getElementById("secret");
const text = document.getElementById("secret-text");

document.addEventListener("told", (event) => {
  const told = event.detail;
  if (!told.invitation) return;
  event.preventDefault();
  document.getElementById("invite").reset();
  text.textContent = told.invitation;
  place.hidden = false;
  place.querySelector("button").focus();
});

document.getElementById("secret-copy")?.addEventListener("click", async (event) => {
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text); // the browser forbids it: it is marked for the keyboard
    button.textContent = "Marked: copy with the keyboard";
  }
});

document.getElementById("secret-done")?.addEventListener("click", () => {
  text.textContent = "";
  place.hidden = true;
  document.getElementById("secret-copy").textContent = "Copy";
});
