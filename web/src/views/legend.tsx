import type { ComponentChildren } from "preact";
import { rounded } from "../numbers.ts";
import { type Centre, type Payload, type Scale, type Units, unitName } from "./reading.ts";

interface WordProps<T extends string> {
  label: string; // the control's name, for who does not see the sentence
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}

/** A word of a sentence that can be changed. */
export function Word<T extends string>({ label, value, options, onChange }: WordProps<T>) {
  return (
    <label class="word">
      {options.find(([option]) => option === value)?.[1] ?? value}
      <select aria-label={label} value={value} onChange={({ currentTarget }) => onChange(currentTarget.value as T)}>
        {options.map(([option, text]) => (
          <option key={option} value={option}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

export const CENTRES: readonly (readonly [Centre, string])[] = [
  ["mean", "its mean"],
  ["none", "nothing"],
];
export const UNITS: readonly (readonly [Units, string])[] = [
  ["sd", "standard deviations"],
  ["stream", "units of the stream"],
];
const SCALES = [
  ["shared", "99% of all texts shown", "shared range"],
  ["text", "each text its own", "range per text"],
  ["fixed", "a fixed number", "fixed range"],
] as const;

interface LegendProps {
  limit: number; // of the range, or the largest of the ranges
  units: Units;
  scale: Scale;
  leftOut: readonly number[];
  several: boolean; // texts, each of which may have a range of its own
  onScale: (scale: Scale) => void;
}

/** Numbers at the ends of the colours, their unit, what is left out; a click changes the range. */
export function Legend({ limit, units, scale, leftOut, several, onScale }: LegendProps) {
  const choose = (mode: string): void => onScale(mode === "fixed" ? { mode, limit: Number(limit.toPrecision(2)) } : { mode: mode as "shared" | "text" });
  const end = rounded(limit);
  return (
    <div class="legend">
      <label class="word range" title="Change the range of colours">
        −{end}
        <i />+{end} {unitName(units)}
        <u>{SCALES.find(([mode]) => mode === scale.mode)![2]}</u>
        <select aria-label={`Range of colours, now ${end} ${unitName(units)} on each side`} value={scale.mode} onChange={({ currentTarget }) => choose(currentTarget.value)}>
          {SCALES.filter(([mode]) => several || mode !== "text").map(([mode, text]) => (
            <option key={mode} value={mode}>
              {text}
            </option>
          ))}
        </select>
      </label>
      {scale.mode === "fixed" && (
        <input
          type="number"
          aria-label="End of the range"
          min="0"
          step="any"
          value={scale.limit}
          onChange={({ currentTarget: { valueAsNumber } }) => valueAsNumber > 0 && onScale({ mode: "fixed", limit: valueAsNumber })}
        />
      )}
      {scale.mode === "text" && <span>each text has its own range; these are the widest ends</span>}
      {leftOut.length > 0 && (
        <span>
          position{leftOut.length > 1 && "s"} {leftOut.join(", ")} left out
        </span>
      )}
    </div>
  );
}

interface HeaderProps extends LegendProps {
  payload: Payload;
  centre: Centre;
  onCentre: (centre: Centre) => void;
  onUnits: (units: Units) => void;
  children?: ComponentChildren;
}

/** What a view says of itself where no page says it: its name, centre, unit and legend. */
export function Header({ payload, centre, onCentre, onUnits, ...legend }: HeaderProps) {
  return (
    <>
      <strong>{payload.name}</strong>
      {payload.centred && (
        <span>
          centred on <Word label="Centre" value={centre} options={CENTRES} onChange={onCentre} />
        </span>
      )}
      {payload.deviation !== null && (
        <span>
          in <Word label="Unit" value={legend.units} options={UNITS} onChange={onUnits} />
        </span>
      )}
      <Legend {...legend} />
    </>
  );
}
