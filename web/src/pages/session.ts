// What every place has in its address: the model that is served, and the theme.

import { signal } from "@preact/signals";
import type { ModelFacts } from "./server.ts";

export type Theme = "light" | "dark" | null; // null: the system's

export const model = signal<ModelFacts | null>(null);
export const theme = signal<Theme>(null);

export function writeSession(query: URLSearchParams): string {
  if (theme.value) query.set("theme", theme.value);
  if (model.value) query.set("model", model.value.name);
  return query.toString();
}

/** A sentence for each part that cannot be had. */
export function readSession(query: URLSearchParams): string[] {
  const [asked, made] = [query.get("theme"), query.get("model")];
  const known = asked === "light" || asked === "dark";
  theme.value = known ? asked : null;
  const problems = known || asked === null ? [] : [`The link says theme=${asked}, which is not understood; it was left out.`];
  if (made !== null && model.value && made !== model.value.name) problems.push(`The link was made with the model ${made}; this server shows ${model.value.name}.`);
  return problems;
}
