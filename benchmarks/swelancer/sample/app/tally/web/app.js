"use strict";

const byId = (id) => document.getElementById(id);
let month = new Date().toISOString().slice(0, 7);

async function api(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body ? JSON.stringify(body) : undefined,
  });
  if (response.status === 204) return null;
  const data = await response.json();
  if (!response.ok) throw Object.assign(new Error(explain(data)), { status: response.status });
  return data;
}

function explain(data) {
  const fields = Object.entries(data.fields || {}).map(([field, why]) => `${field} ${why}`);
  return fields.length ? fields.join("; ") : data.error;
}

function shifted(text, months) {
  const [year, number] = text.split("-").map(Number);
  const index = year * 12 + (number - 1) + months;
  return `${Math.floor(index / 12)}-${String((index % 12) + 1).padStart(2, "0")}`;
}

function cell(row, text, className = "") {
  const td = row.insertCell();
  td.textContent = text;
  td.className = className;
  return td;
}

function show(expenses) {
  const body = byId("expenses");
  body.replaceChildren();
  for (const expense of expenses) {
    const row = body.insertRow();
    cell(row, expense.date);
    cell(row, expense.category);
    cell(row, expense.note, "note");
    cell(row, expense.amount, "amount");
    const remove = document.createElement("button");
    remove.textContent = "Delete";
    remove.onclick = () => attempt(async () => {
      await api("DELETE", `/api/expenses/${expense.id}`);
      await refresh();
    });
    cell(row, "").append(remove);
  }
}

async function refresh() {
  const [year, number] = month.split("-").map(Number);
  const last = new Date(Date.UTC(year, number, 0)).getUTCDate();
  const query = new URLSearchParams({ from: `${month}-01`, to: `${month}-${last}`, per_page: 100, q: byId("search").value });
  const [report, found] = await Promise.all([
    api("GET", `/api/reports/month?month=${month}`),
    api("GET", `/api/expenses?${query}`),
  ]);
  byId("month").textContent = month;
  byId("total").textContent = report.total;
  byId("count").textContent = report.count;
  byId("average").textContent = report.average;
  byId("print").href = `/print/${month}`;
  show(found.items);
}

async function enter() {
  let user = null;
  try {
    user = await api("GET", "/api/me");
  } catch (error) {
    if (error.status !== 401) throw error;
  }
  byId("sign-in").hidden = user !== null;
  byId("home").hidden = user === null;
  if (user === null) return;
  byId("who").textContent = user.name;
  const categories = await api("GET", "/api/categories");
  byId("add").category.replaceChildren(...categories.items.map((category) => new Option(category.name)));
  byId("add").date.value = `${month}-01`;
  await refresh();
}

async function attempt(work) {
  byId("message").textContent = "";
  try {
    await work();
  } catch (error) {
    byId("message").textContent = error.message;
  }
}

byId("sign-in").onsubmit = (event) => {
  event.preventDefault();
  const form = event.target;
  const path = event.submitter && event.submitter.name === "signup" ? "/api/signup" : "/api/login";
  attempt(async () => {
    await api("POST", path, { name: form.elements.name.value, password: form.password.value });
    await enter();
  });
};

byId("add").onsubmit = (event) => {
  event.preventDefault();
  const form = event.target;
  const { date, amount, category, note } = form.elements;
  attempt(async () => {
    await api("POST", "/api/expenses", { date: date.value, amount: amount.value, category: category.value, note: note.value });
    amount.value = note.value = "";
    await refresh();
  });
};

byId("sign-out").onclick = () => attempt(async () => {
  await api("POST", "/api/logout");
  await enter();
});
byId("previous").onclick = () => attempt(() => { month = shifted(month, -1); return refresh(); });
byId("next").onclick = () => attempt(() => { month = shifted(month, 1); return refresh(); });
byId("search").oninput = () => attempt(refresh);

attempt(enter);
