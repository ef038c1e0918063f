"""From files to sequences: DICOM (or images, or npz) -> one ordered sequence a patient -> the cohort on
disk."""
