/** A place for the accuracy section, hidden until there is one. */
export function mountAccuracy(section: HTMLElement): void {
  section.hidden = true;
}
