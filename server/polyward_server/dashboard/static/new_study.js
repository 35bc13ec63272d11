// The form of a new study: what is filled in is checked by the hub as one writes, and told where it belongs.
const form = document.getElementById("new-study");
const taskList = document.getElementById("tasks");
const encoderKind = document.getElementById("encoder-kind");
const told = document.getElementById("mistakes");
const touched = new WeakSet(); // fields that somebody has written into: only these show their mistakes at once
let all = false; // after a try to save, every field shows its mistakes
let numbered = 0;

// --- what is filled in

function lines(where) {
  const found = {};
  for (const each of where.querySelectorAll("[data-key]")) {
    if (!each.closest("[hidden]")) found[each.dataset.key] = each.value;
  }
  return found;
}

function filled() {
  const tasks = [...taskList.children].map((task) => ({
    name: task.querySelector("[data-name]").value,
    kind: task.querySelector("[data-kind]").value,
    entries: lines(task.querySelector("[data-fields]")),
  }));
  const entries = {};
  for (const each of form.querySelectorAll("[data-key]")) {
    if (!each.closest("[hidden], #tasks")) entries[each.dataset.key] = each.value;
  }
  return { entries, encoder: encoderKind.value, tasks, rest: document.getElementById("rest").value };
}

function addTask(name = "", kind = "segmentation", entries = {}) {
  const task = document.getElementById("task").content.firstElementChild.cloneNode(true);
  task.id = `task-${++numbered}`;
  const choice = task.querySelector("[data-kind]");
  const title = task.querySelector("[data-name]");
  const show = (values) => {
    const fields = task.querySelector("[data-fields]");
    fields.replaceChildren(document.getElementById(`kind-${choice.value}`).content.cloneNode(true));
    for (const each of fields.querySelectorAll("[data-key]")) {
      const label = fields.querySelector(`label[for="${CSS.escape(each.id)}"]`);
      each.id = `${task.id}-${each.dataset.key}`;
      label.htmlFor = each.id;
      if (each.dataset.key in values) each.value = values[each.dataset.key];
    }
  };
  title.id = `${task.id}-name`;
  title.previousElementSibling.htmlFor = title.id;
  choice.id = `${task.id}-kind`;
  choice.previousElementSibling.htmlFor = choice.id;
  title.value = name;
  choice.value = kind;
  choice.addEventListener("change", () => show(lines(task.querySelector("[data-fields]"))));
  task.querySelector("[data-remove]").addEventListener("click", () => {
    task.remove();
    document.getElementById("add-task").focus();
    soon();
  });
  show(entries);
  taskList.append(task);
  return title;
}

function showEncoder() {
  for (const each of form.querySelectorAll("[data-encoder]")) each.hidden = each.dataset.encoder !== encoderKind.value;
}

function fill(study) {
  for (const each of form.querySelectorAll("[data-key]")) each.value = each.dataset.default;
  encoderKind.value = study.encoder;
  showEncoder();
  for (const [key, value] of Object.entries(study.entries)) {
    for (const each of form.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)) {
      if (!each.closest("[hidden], #tasks")) each.value = value;
    }
  }
  taskList.replaceChildren();
  for (const task of study.tasks) addTask(task.name, task.kind, task.entries);
  document.getElementById("rest").value = study.rest;
  document.getElementById("more").open = study.rest !== "";
}

// --- where a mistake belongs

function fieldOf(key) {
  for (const task of taskList.children) {
    const start = `tasks.${task.querySelector("[data-name]").value}`;
    if (key === start) return task.querySelector("[data-name]");
    if (key.startsWith(`${start}.`)) {
      const inner = key.slice(start.length + 1).split(".")[0];
      return task.querySelector(`[data-key="${CSS.escape(inner)}"]`) || task.querySelector("[data-name]");
    }
  }
  for (let name = key; name; name = name.includes(".") ? name.slice(0, name.lastIndexOf(".")) : "") {
    const found = [...form.querySelectorAll(`[data-key="${CSS.escape(name)}"]`)].find((each) => !each.closest("[hidden]"));
    if (found) return found;
  }
  return key === "tasks" ? taskList.querySelector("[data-name]") || document.getElementById("add-task") : null;
}

function show(mistakes) {
  for (const each of form.querySelectorAll(".mistake")) each.remove();
  for (const each of form.querySelectorAll("[aria-invalid]")) {
    each.removeAttribute("aria-invalid");
    each.removeAttribute("aria-describedby");
  }
  const list = document.createElement("ul");
  list.className = "plain mistakes";
  mistakes.forEach((mistake, number) => {
    const field = fieldOf(mistake.key);
    const entry = document.createElement("li");
    entry.textContent = mistake.key ? `${mistake.key.replace(/\.$/, "")}: ${mistake.sentence}` : mistake.sentence;
    list.append(entry);
    if (!field?.closest(".question") || !(all || touched.has(field))) return;
    const below = document.createElement("p");
    below.className = "mistake bad";
    below.id = `mistake-${number}`;
    below.textContent = mistake.sentence;
    field.closest(".question").append(below);
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", below.id);
  });
  told.replaceChildren();
  if (mistakes.length) {
    const heading = document.createElement("p");
    heading.textContent = "Still to do";
    heading.className = "warn";
    told.append(heading, list);
  }
}

// --- talking with the hub

async function ask(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-token": document.querySelector("meta[name=token]").content },
    body: JSON.stringify(body),
  });
  const data = await answer.json();
  if (!answer.ok) throw new Error(typeof data.detail === "string" ? data.detail : `the hub answered ${answer.status}`);
  return data;
}

function notice(text) {
  const place = document.querySelector("main > .notice");
  place.textContent = text;
  place.className = "notice bad";
  place.hidden = !text;
  if (text) place.scrollIntoView({ block: "nearest" });
}

let asked = 0;
async function check() {
  const number = ++asked;
  try {
    const checked = await ask("/new/check", filled());
    if (number !== asked) return false; // a later one is on its way
    show(checked.mistakes);
    const sound = checked.mistakes.length === 0;
    document.getElementById("preview").classList.toggle("old", !sound);
    if (sound) {
      document.getElementById("preview").innerHTML = checked.html;
      document.getElementById("toml").textContent = checked.text;
    }
    return sound;
  } catch (error) {
    notice(error.message);
    return false;
  }
}

let waiting = 0;
function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(check, 300);
}

async function keep(path) {
  all = true;
  notice("");
  if (!(await check())) {
    form.querySelector("[aria-invalid]")?.focus();
    return;
  }
  try {
    location.assign((await ask(path, filled())).go);
  } catch (error) {
    notice(error.message);
  }
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  touched.add(event.target);
  if (event.target.id !== "pasted") soon();
});
form.addEventListener("change", soon);
encoderKind.addEventListener("change", showEncoder);
document.getElementById("add-task").addEventListener("click", () => addTask().focus());
document.getElementById("save-draft").addEventListener("click", () => keep("/new/draft"));
document.getElementById("queue").addEventListener("click", () => keep("/new/queue"));
document.getElementById("upload").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) document.getElementById("pasted").value = file.size < 200000 ? await file.text() : "";
});
document.getElementById("fill").addEventListener("click", async () => {
  notice("");
  try {
    fill(await ask("/new/read", { text: document.getElementById("pasted").value }));
    all = true;
    check();
    form.querySelector("[data-key]").focus();
  } catch (error) {
    notice(error.message);
  }
});

addTask();
check();
