/** The interface as a list: every path of the OpenAPI document, its parameters and its answer. */

import { get } from "./api.js";

function element(tag, text = "", ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

const nameOf = (schema) => schema?.$ref?.split("/").pop();

/** A schema in a few words. */
function words(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema);
  if (schema.anyOf) return schema.anyOf.map(words).join(" or ");
  if (schema.type === "array") return `${words(schema.items)}[]`;
  if (schema.enum) return schema.enum.join(" | ");
  const bounds = [schema.minimum, schema.maximum].map((bound) => bound ?? "");
  const range = bounds.some((bound) => bound !== "") ? ` ${bounds.join("..")}` : "";
  return `${schema.format ?? schema.type ?? "any"}${range}`;
}

function table(heads, rows) {
  const head = element("tr", "", ...heads.map((text) => element("th", text)));
  const body = rows.map((row) => element("tr", "", ...row.map((text) => element("td", text))));
  return element("table", "", head, ...body);
}

function parameters(list) {
  const rows = list.map(({ name, in: place, required, schema, description }) =>
    [name, place, required ? "yes" : "", words(schema), description ?? schema?.description ?? ""]);
  return table(["parameter", "in", "required", "kind", "meaning"], rows);
}

function fields(schema, schemas) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, of]) => [name, words(of)]);
  const name = element("h4", schema.title ?? "Answer");
  const why = element("p", schema.description ?? "");
  const nested = new Set(JSON.stringify(schema.properties ?? {}).match(/schemas\/[^"]+/g));
  const parts = [...nested].map((ref) => schemas[ref.slice("schemas/".length)]);
  const shown = parts.filter((part) => part?.properties && part !== schema);
  return element("div", "", name, why, table(["field", "kind"], rows),
    ...shown.map((part) => fields({ ...part }, {})));
}

function operation(path, method, said, schemas) {
  const body = element("div");
  const docs = element("details", "",
    element("summary", "", element("code", `${method.toUpperCase()} ${path}`),
      document.createTextNode(`  ${(said.description ?? said.summary ?? "").split("\n")[0]}`)),
    body);
  docs.addEventListener("toggle", () => {
    if (body.childElementCount) return;
    if (said.parameters?.length) body.append(parameters(said.parameters));
    const takes = nameOf(said.requestBody?.content?.["application/json"]?.schema);
    const gives = nameOf(said.responses?.["200"]?.content?.["application/json"]?.schema);
    for (const name of [takes, gives].filter(Boolean)) body.append(fields(schemas[name], schemas));
  });
  return docs;
}

async function show(place) {
  const spec = await get("/api/openapi.json");
  const groups = new Map();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, said] of Object.entries(methods)) {
      const group = said.tags?.[0] ?? "other";
      const list = groups.get(group) ?? [];
      list.push(operation(path, method, said, spec.components.schemas));
      groups.set(group, list);
    }
  }
  const title = element("h1", `${spec.info.title} ${spec.info.version}: interface`);
  const shown = [...groups].flatMap(([name, list]) => [element("h2", name), ...list]);
  place.replaceChildren(title, ...shown);
}

const place = document.getElementById("interface");
show(place).catch((problem) => {
  const asks = problem.status === 401 ? " Give the token on the desk, then load this again." : "";
  place.textContent = `${problem.message}.${asks}`;
});
