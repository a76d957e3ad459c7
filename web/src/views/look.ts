// How a result is looked at: what a link, a notebook or another result left is taken only where it fits this one.

import type { Scale } from "./reading.ts";

export interface Look {
  chosen?: unknown; // how the view's controls stand
  picked?: unknown;
  scale?: unknown;
}

/** A look that fits; nothing where that is as it is at first. */
export interface Fitting {
  chosen?: Record<string, unknown>;
  picked?: unknown;
  scale?: Scale;
}

export type Check = (value: unknown) => boolean;

export interface Head {
  layer: number;
  head: number;
  model?: string; // of a result of several
}

/** Whether a head may be of that model: most results do not say of which they are. */
export const isOf = (name: string, { model = name }: Head): boolean => model === name;

/** A feature of the dictionary of a site, at a position. */
export interface PlacedFeature {
  site: string;
  source: string | null; // where its dictionary can be loaded
  feature: number;
  pos: number;
  name: string; // "5.10603@7"
}

/** What is picked, for who can show more of it than the result holds. */
export interface Onward {
  heads?: readonly Head[];
  cells?: readonly { site: string; pos: number }[]; // of a logit lens
  features?: readonly PlacedFeature[]; // of a graph
}

/** What fits a result, and what is meant by what is picked in it. */
export interface Fit<Picked> {
  chosen?: Readonly<Record<string, Check>>;
  picked?: Check;
  first?: Look; // as it is looked at where nobody says otherwise
  onward?: (picked: Picked) => Onward;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

export const below = (n: number): Check => (value) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < n;
export const oneOf = (...known: readonly unknown[]): Check => (value) => known.includes(value);
export const either = (...checks: readonly Check[]): Check => (value) => checks.some((check) => check(value));
export const allOf = (...checks: readonly Check[]): Check => (value) => checks.every((check) => check(value));
export const listOf = (check: Check, most: number): Check => (value) => Array.isArray(value) && value.length > 0 && value.length <= most && value.every(check);
export const isText: Check = (value) => typeof value === "string";
export const isNumber: Check = (value) => typeof value === "number" && Number.isFinite(value);
export const isList = (check: Check): Check => (value) => Array.isArray(value) && value.every(check);
/** With any names. */
export const isRecordOf = (check: Check): Check => (value) => isRecord(value) && Object.values(value).every(check);
/** With all of these fields. */
export const fieldsOf = (fields: Readonly<Record<string, Check>>): Check => (value) => isRecord(value) && Object.entries(fields).every(([name, check]) => check(value[name]));
/** With some of them, and no other. */
export const someOf = (fields: Readonly<Record<string, Check>>): Check => (value) => isRecord(value) && Object.entries(value).every(([name, inner]) => Object.hasOwn(fields, name) && fields[name](inner));

/** One of these, each layer and head. */
export const oneOfHeads = (heads: readonly (readonly number[])[]): Check => (value) => isRecord(value) && heads.some(([layer, head]) => layer === value.layer && head === value.head);
export const oneHeadOf = (n_layers: number, n_heads: number): Check => fieldsOf({ layer: below(n_layers), head: below(n_heads) });
export const oneCellOf = (rows: number, columns: number): Check => fieldsOf({ row: below(rows), column: below(columns) });

const isScale = either(fieldsOf({ mode: oneOf("shared") }), fieldsOf({ mode: oneOf("fixed"), limit: (limit) => typeof limit === "number" && limit > 0 && limit < Infinity }));

/** What of a look fits, and in words what does not. */
export function fitLook({ chosen: controls, picked, scale, ...others }: Look, { chosen: checks = {}, picked: isPick }: Fit<never>): { look: Fitting; left: string[] } {
  const left: string[] = [];
  const take = <T>(name: string, value: unknown, check: Check | undefined): T | undefined => {
    if (value == null) return undefined;
    if (check?.(value)) return value as T;
    left.push(`${name}=${JSON.stringify(value)}`);
    return undefined;
  };
  const chosen = Object.entries(take<Record<string, unknown>>("chosen", controls, isRecord) ?? {}).filter(([name, value]) => take(name, value, Object.hasOwn(checks, name) ? checks[name] : undefined) !== undefined);
  for (const [name, value] of Object.entries(others)) take(name, value, undefined);
  return {
    look: { chosen: chosen.length ? Object.fromEntries(chosen) : undefined, picked: take("picked", picked, isPick), scale: take("scale", scale, isScale) },
    left,
  };
}
