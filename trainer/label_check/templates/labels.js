"use strict";
(() => {
  const { key, photographs, decided } = JSON.parse(
    document.getElementById("data").textContent);
  const storageKey = `label decisions ${key}`;
  const items = [...document.querySelectorAll("#list li")];
  const get = (id) => document.getElementById(id);
  // Name -> {action, label}; a Map, because "__proto__" can be the name of a file.
  const decisions = load();
  const undone = [];
  let current = Math.max(0, photographs.findIndex(({ name }) => !decisions.has(name)));

  function load() {
    try {
      return new Map(JSON.parse(localStorage.getItem(storageKey) || "[]"));
    } catch {
      return new Map();
    }
  }

  function store() {
    try {
      localStorage.setItem(storageKey, JSON.stringify([...decisions]));
      return "";
    } catch {
      return " This browser keeps nothing: save before you close the page.";
    }
  }

  function describe(decision) {
    if (!decision) return "";
    if (decision.action === "relabel") return `→ ${decision.label}`;
    return decision.action === "keep" ? "kept" : "dropped";
  }

  function show(index) {
    current = Math.min(Math.max(index, 0), photographs.length - 1);
    const { name, label, suggested } = photographs[current];
    const decision = decisions.get(name);
    get("picture").src = items[current].querySelector("img").src;
    get("picture").alt = `Photograph ${name}`;
    get("name").textContent = name;
    get("label").textContent = label;
    get("suggested").textContent = suggested;
    get("class").value = decision && decision.label ? decision.label : label;
    get("place").textContent = `${current + 1} of ${photographs.length}`;
    get("state").textContent = decision ? `(${describe(decision)})` : "";
    const count = (action) =>
      [...decisions.values()].filter((each) => each.action === action).length;
    get("progress").textContent = `${decisions.size} decided: ${count("relabel")} ` +
      `relabelled, ${count("keep")} kept, ${count("drop")} dropped`;
    get("undo").disabled = undone.length === 0;
    get("save").disabled = decisions.size === 0;
    get("previous").disabled = current === 0;
    get("next").disabled = current === photographs.length - 1;
    items.forEach((item, position) => {
      item.querySelector(".state").textContent =
        describe(decisions.get(photographs[position].name));
      item.firstElementChild.setAttribute("aria-current", position === current);
    });
  }

  function decide(action, label) {
    const { name, label: given } = photographs[current];
    undone.push({ index: current, before: decisions.get(name) });
    if (action === "relabel" && label === given) action = "keep";
    const decision = { action, label: action === "drop" ? "" : label };
    decisions.set(name, decision);
    const problem = store();
    show(current + 1);
    const isDone = photographs.every((each) => decisions.has(each.name));
    get("message").textContent = `${name}: ${describe(decision)}.` +
      (isDone ? " All are decided: save the decisions." : "") + problem;
  }

  function undo() {
    const last = undone.pop();
    if (!last) return;
    const { name } = photographs[last.index];
    if (last.before) decisions.set(name, last.before);
    else decisions.delete(name);
    const problem = store();
    show(last.index);
    get("message").textContent = `${name}: undone.${problem}`;
  }

  // The same pattern as in pipeline/system/texts.py.
  function toCell(text) {
    const cell = /^'*[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  }

  function save() {
    const all = new Map([...Object.entries(decided), ...decisions]);
    const rows = [...all].map(([name, { action, label }]) => [name, action, label]);
    const text = [["name", "action", "label"], ...rows]
      .map((row) => row.map(toCell).join(",") + "\r\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    get("message").textContent = `Saved ${rows.length} decisions as corrections.csv.`;
  }

  const actions = {
    a: () => decide("relabel", photographs[current].suggested),
    k: () => decide("keep", photographs[current].label),
    d: () => decide("drop", ""),
    u: undo,
    c: () => get("class").focus(),
    ArrowLeft: () => show(current - 1),
    ArrowRight: () => show(current + 1),
  };
  const useClass = () => {
    decide("relabel", get("class").value);
    get("class").blur();
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === get("class")) {
      if (event.key === "Enter") { event.preventDefault(); useClass(); }
      if (event.key === "Escape") get("class").blur();
      return;
    }
    const action = actions[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  get("accept").addEventListener("click", actions.a);
  get("keep").addEventListener("click", actions.k);
  get("drop").addEventListener("click", actions.d);
  get("undo").addEventListener("click", undo);
  get("use").addEventListener("click", useClass);
  get("previous").addEventListener("click", actions.ArrowLeft);
  get("next").addEventListener("click", actions.ArrowRight);
  get("save").addEventListener("click", save);
  items.forEach((item, position) => {
    item.firstElementChild.addEventListener("click", () => {
      show(position);
      get("work").scrollIntoView();
    });
  });
  get("work").hidden = false;
  show(current);
})();
