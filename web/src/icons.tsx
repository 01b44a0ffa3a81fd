// Icons that repeat what the words beside them say, so a screen reader skips
// them. Drawn with currentColor: they follow the theme.

import type { ComponentChildren } from "preact";

function Icon({ children }: { children: ComponentChildren }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 16 16"
      width="16"
      height="16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.75"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

export function CheckIcon() {
  return (
    <Icon>
      <circle cx="8" cy="8" r="6.5" />
      <path d="m5.2 8.2 2 2 3.6-4" />
    </Icon>
  );
}

export function CrossIcon() {
  return (
    <Icon>
      <circle cx="8" cy="8" r="6.5" />
      <path d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4" />
    </Icon>
  );
}

export function DotsIcon() {
  return (
    <Icon>
      <circle cx="8" cy="8" r="6.5" stroke-dasharray="2.6 3.2" />
    </Icon>
  );
}

export function CopyIcon() {
  return (
    <Icon>
      <rect x="5.5" y="5.5" width="8" height="8" rx="1.75" />
      <path d="M10.5 2.5h-6a2 2 0 0 0-2 2v6" />
    </Icon>
  );
}

/** The mark of the page, as in favicon.svg: a list of people. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="36" height="36" aria-hidden="true">
      <rect class="mark-ground" width="32" height="32" rx="8" />
      <g class="mark-rows">
        <circle cx="10" cy="9.5" r="2.5" />
        <circle cx="10" cy="16" r="2.5" />
        <circle cx="10" cy="22.5" r="2.5" />
        <rect x="15" y="8.25" width="10" height="2.5" rx="1.25" />
        <rect x="15" y="14.75" width="7" height="2.5" rx="1.25" />
        <rect x="15" y="21.25" width="9" height="2.5" rx="1.25" />
      </g>
    </svg>
  );
}
