// Numbers that are typed into a sentence. JSON has no NaN: what is no number would be sent as if nothing had been said.

import { ServerError } from "../server.ts";

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

const refuse = (text: string, what: string, hint: string): never => {
  throw new ServerError(422, "bad_request", text.trim() ? `“${text.trim()}” is no ${what}.` : `No ${what} is given.`, hint);
};

/** A number, as `such`. Throws a sentence where the text is none. */
export function readNumber(text: string, such: string): number {
  const number = Number(text);
  return NUMBER.test(text.trim()) && Number.isFinite(number) ? number : refuse(text, "number", `Give one, as ${such}.`);
}

/** Whole numbers with commas between, at least one. */
export function readPositions(text: string): number[] {
  const words = text.split(",").map((word) => word.trim());
  const strange = words.find((word) => !/^[+-]?\d{1,15}$/.test(word));
  return strange === undefined ? words.map(Number) : refuse(strange, "position", "Give whole numbers with commas between, as 3, -1: from 0, or from the end.");
}
