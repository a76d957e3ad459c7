// The contract between a view and whoever shows it: anywidget's front-end module. A page that has a `Model` is a host.

export interface Model {
  get(key: string): any;
  set(key: string, value: unknown): void;
  on(event: string, callback: () => void): void;
  off(event: string, callback?: () => void): void;
  save_changes(): void;
  send(content: unknown): void;
}

export interface View {
  render(context: { model: Model; el: HTMLElement }): () => void;
}

/** A model that lives in this page. */
export function hostedModel(values: Record<string, unknown>): Model {
  const state = { ...values };
  const listeners = new Map<string, Set<() => void>>();
  return {
    get: (key) => state[key],
    set(key, value) {
      if (Object.is(state[key], value)) return;
      state[key] = value;
      for (const callback of listeners.get(`change:${key}`) ?? []) callback();
    },
    on(event, callback) {
      listeners.set(event, (listeners.get(event) ?? new Set()).add(callback));
    },
    off(event, callback) {
      if (callback) listeners.get(event)?.delete(callback);
      else listeners.delete(event);
    },
    save_changes() {},
    send() {},
  };
}
